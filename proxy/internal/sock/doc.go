// Package sock makes the system calls that Go's package net has no words for, on
// descriptors that it did not make: a socket in Go's poller or out of it, its
// addresses, datagrams with control messages, and what the kernel tells of
// sockets (sock_diag(7)). It does not know what the bytes are for, nor whom they
// are for.
package sock
