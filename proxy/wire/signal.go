package wire

import "syscall"

// LetGo is the signal that has a proxy stop and let go of its sockets, for
// another service that is to listen there. Servers take SIGWINCH for that
// (httpd(8), nginx(8)), and who does not know it is not harmed.
const LetGo = syscall.SIGWINCH
