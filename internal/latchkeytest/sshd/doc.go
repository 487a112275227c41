// Package sshd runs real OpenSSH servers for tests, with accounts and passwords
// of their own.
//
// Each server lives in a mount namespace in which /etc/passwd, /etc/shadow,
// /etc/group and the PAM service of sshd are the test's: the machine's own
// accounts stay as they are. That takes root, and Debian's openssh-server.
package sshd
