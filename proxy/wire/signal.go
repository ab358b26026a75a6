package wire

import "syscall"

// LetGo is the signal that has a proxy stop and let go of its sockets, for
// another service that is to listen there. Servers take SIGWINCH for that
// (httpd(8), nginx(8)), and who does not know it is not harmed.
const LetGo = syscall.SIGWINCH

// GiveWay is the signal that asks a proxy with [Config.GivesWay] to end once nobody
// is connected, and to let nobody else in before. Who does not know it is not
// harmed (signal(7)).
const GiveWay = syscall.SIGCONT
