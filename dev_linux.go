package main

import "syscall"

// childAttributes makes a child process of another user (uid -1: of our own), out of the reach of the terminal's Ctrl-C, that
// is told to stop when its parent dies in whatever way.
func childAttributes(uid, gid int) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGINT}
	if uid >= 0 {
		a.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	return a
}
