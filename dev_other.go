//go:build !linux

package main

import (
	"os"
	"syscall"
)

// lockFile does nothing here: starting dev twice over the same data stops the first one's database.
func lockFile(*os.File) error { return nil }

// childAttributes: other systems have no parent-death signal and run dev as an ordinary user; a cluster left by a killed
// process is stopped at the next start.
func childAttributes(int, int) *syscall.SysProcAttr { return nil }
