package main

// Keys: what is derived from USERSPACE_SECRET, sealing, the ring of signing keys, and the public key set.
// Their rows are read and written by store_tokens.go.

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"
)

// secretKeys are the keys derived from USERSPACE_SECRET, one for each purpose, so that none can be used for another.
type secretKeys struct {
	seal        []byte // AES-256: signing keys and queued mails at rest
	refresh     []byte // HMAC-SHA256 of refresh tokens
	fingerprint []byte // HMAC-SHA256 of emails that have no account
}

// deriveKeys runs HKDF-SHA256 (RFC 5869) over the secret, which has at least 32 bytes.
func deriveKeys(secret []byte) secretKeys {
	derive := func(purpose string) []byte {
		key, err := hkdf.Key(sha256.New, secret, nil, "userspace "+purpose+" v1", 32)
		if err != nil {
			panic(err) // only for lengths beyond 8,160 bytes
		}
		return key
	}
	return secretKeys{derive("seal"), derive("refresh"), derive("fingerprint")}
}

var errSeal = errors.New("sealed under another secret, or damaged")

// seal encrypts with AES-256-GCM under a fresh nonce, bound to a label that is stored beside it.
func seal(key, plain []byte, label string) []byte {
	gcm := newGCM(key)
	nonce := make([]byte, gcm.NonceSize())
	rand.Read(nonce)
	return gcm.Seal(nonce, nonce, plain, []byte(label))
}

// unseal is the inverse of seal. The error is errSeal.
func unseal(key, sealed []byte, label string) ([]byte, error) {
	gcm := newGCM(key)
	if len(sealed) < gcm.NonceSize() {
		return nil, errSeal
	}
	plain, err := gcm.Open(nil, sealed[:gcm.NonceSize()], sealed[gcm.NonceSize():], []byte(label))
	if err != nil {
		return nil, errSeal
	}
	return plain, nil
}

func newGCM(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // the key has 32 bytes
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return gcm
}

// keyRow is a row of signing_keys.
type keyRow struct {
	kid       string
	alg       string
	publicKey []byte
	sealed    []byte
}

// keyRing holds the keys tokens are checked with, and the one that signs.
type keyRing struct {
	current *signingKey
	byKid   map[string]*signingKey
}

func (r *keyRing) find(kid string) *signingKey { return r.byKid[kid] }

// loadKeyRing opens the stored EdDSA keys, or makes the first one. In HS256 mode the ring is the configured secret alone.
// A secret that does not open a key is an error here, at start, and not a 500 later.
func loadKeyRing(ctx context.Context, st *store, cfg *config, seal []byte, now time.Time) (*keyRing, error) {
	if cfg.tokens.alg == algHS256 {
		key := newHMACKey(cfg.tokens.hs256Key)
		return &keyRing{key, map[string]*signingKey{key.kid: key}}, nil
	}
	rows, err := st.ensureSigningKey(ctx, newKeyRow(seal), now)
	if err != nil {
		return nil, err
	}
	ring := &keyRing{byKid: map[string]*signingKey{}}
	for _, row := range rows { // newest first
		key, err := openKeyRow(row, seal)
		if err != nil {
			return nil, fmt.Errorf("signing key %s: %w: is USERSPACE_SECRET the one this database was started with?", row.kid, err)
		}
		if ring.current == nil {
			ring.current = key
		}
		ring.byKid[key.kid] = key
	}
	return ring, nil
}

func newKeyRow(sealKey []byte) keyRow {
	seed := make([]byte, ed25519.SeedSize)
	rand.Read(seed)
	key := newEdKey(seed)
	return keyRow{key.kid, algEdDSA, key.public(), seal(sealKey, seed, key.kid)}
}

// openKeyRow unseals a key and checks that the row tells the truth about it.
func openKeyRow(row keyRow, sealKey []byte) (*signingKey, error) {
	seed, err := unseal(sealKey, row.sealed, row.kid)
	if err != nil {
		return nil, err
	}
	if len(seed) != ed25519.SeedSize || row.alg != algEdDSA {
		return nil, errors.New("not an Ed25519 seed")
	}
	key := newEdKey(seed)
	if key.kid != row.kid || !key.public().Equal(ed25519.PublicKey(row.publicKey)) {
		return nil, errors.New("the public key or key id is not this key's")
	}
	return key, nil
}

// jwk is a public key after RFC 7517 and RFC 8037. It has no member for a private one.
type jwk struct {
	KeyType   string `json:"kty"`
	Curve     string `json:"crv"`
	X         string `json:"x"`
	KeyID     string `json:"kid"`
	Use       string `json:"use"`
	Algorithm string `json:"alg"`
}

type jwkSet struct {
	Keys []jwk `json:"keys"`
}

// publicKeys lists the public keys, or errHS256.
func (s *service) publicKeys(context.Context, *call, nothing) (jwkSet, error) {
	set := jwkSet{Keys: []jwk{}}
	for _, k := range s.keys.byKid {
		if k.alg != algEdDSA {
			return jwkSet{}, errHS256
		}
		set.Keys = append(set.Keys, jwk{"OKP", "Ed25519", b64(k.public()), k.kid, "sig", k.alg})
	}
	return set, nil
}

// serverMetadata is the part of RFC 8414 §2 that fits a service without authorization grants.
type serverMetadata struct {
	Issuer        string   `json:"issuer"`
	JWKSURI       string   `json:"jwks_uri,omitempty"`
	ResponseTypes []string `json:"response_types_supported"`
	GrantTypes    []string `json:"grant_types_supported"`
	Algorithms    []string `json:"access_token_signing_alg_values_supported"`
}

func (s *service) metadata(context.Context, *call, nothing) (serverMetadata, error) {
	m := serverMetadata{
		Issuer:        s.cfg.tokens.issuer,
		ResponseTypes: []string{},
		GrantTypes:    []string{},
		Algorithms:    []string{s.cfg.tokens.alg},
	}
	if s.cfg.tokens.alg == algEdDSA {
		m.JWKSURI = s.cfg.tokens.issuer + "/.well-known/jwks.json"
	}
	return m, nil
}
