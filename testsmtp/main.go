// Testsmtp is a small SMTP server for the tests of mail delivery. It is a program of its own, in a module of its own, so that
// neither the service nor its go.mod depends on it.
//
// Its first line on stdout is its port on 127.0.0.1; after that comes one JSON object for each mail it took.
// It ends when stdin does.
package main

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"strings"
	"sync"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// received is a mail as it came.
type received struct {
	From string `json:"from"`
	To   string `json:"to"`
	User string `json:"user"` // who authenticated
	TLS  bool   `json:"tls"`
	Data string `json:"data"`
}

type backend struct {
	mu       sync.Mutex
	failures int    // deliveries still to be refused with 451
	reject   bool   // refuse every recipient with 550
	user     string // "": no authentication
	password string
}

func main() {
	mode := flag.String("tls", "none", "none, starttls or implicit")
	cert := flag.String("cert", "", "certificate file")
	key := flag.String("key", "", "key file")
	auth := flag.String("auth", "", "user:password to ask for")
	b := &backend{}
	flag.IntVar(&b.failures, "fail", 0, "how many deliveries to refuse with 451 first")
	flag.BoolVar(&b.reject, "reject", false, "refuse every recipient with 550")
	flag.Parse()
	b.user, b.password, _ = strings.Cut(*auth, ":")

	server := smtp.NewServer(b)
	server.Domain = "testsmtp"
	server.AllowInsecureAuth = *mode == "none"
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	if *mode != "none" {
		pair, err := tls.LoadX509KeyPair(*cert, *key)
		if err != nil {
			log.Fatal(err)
		}
		config := &tls.Config{Certificates: []tls.Certificate{pair}}
		if *mode == "implicit" {
			l = tls.NewListener(l, config)
		} else {
			server.TLSConfig = config
		}
	}
	fmt.Println(port)
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	log.Fatal(server.Serve(l))
}

func (b *backend) NewSession(c *smtp.Conn) (smtp.Session, error) {
	return &session{b: b, c: c}, nil
}

type session struct {
	b    *backend
	c    *smtp.Conn
	mail received
}

func (s *session) AuthMechanisms() []string {
	if s.b.user == "" {
		return nil
	}
	return []string{sasl.Plain}
}

func (s *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if user != s.b.user || password != s.b.password {
			return errors.New("wrong user or password")
		}
		s.mail.User = user
		return nil
	}), nil
}

func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	if s.b.user != "" && s.mail.User == "" {
		return smtp.ErrAuthRequired
	}
	_, s.mail.TLS = s.c.TLSConnectionState()
	s.mail.From = from
	return nil
}

// Rcpt refuses in the way many servers do: with the address in the text.
func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	if s.b.reject {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "<" + to + ">: no such user"}
	}
	s.mail.To = to
	return nil
}

func (s *session) Data(r io.Reader) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	if s.b.failures > 0 {
		s.b.failures--
		return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "<" + s.mail.To + ">: try again later"}
	}
	s.mail.Data = string(data)
	return json.NewEncoder(os.Stdout).Encode(s.mail)
}

func (s *session) Reset() {}

func (s *session) Logout() error { return nil }
