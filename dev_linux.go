package main

import (
	"os"
	"syscall"
)

// lockFile takes a lock that ends with the process, or fails at once when another process has it.
func lockFile(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) }

// childAttributes makes a child process of another user (uid -1: of our own), out of the reach of the terminal's Ctrl-C, that
// is told to stop when its parent dies in whatever way.
func childAttributes(uid, gid int) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGINT}
	if uid >= 0 {
		a.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	return a
}
