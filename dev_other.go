//go:build !linux

package main

import "syscall"

// childAttributes: other systems have no parent-death signal and run dev as an ordinary user; a cluster left by a killed
// process is stopped at the next start.
func childAttributes(int, int) *syscall.SysProcAttr { return nil }
