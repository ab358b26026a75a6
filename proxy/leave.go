package proxy

// letGo closes the sockets while the open connections end. systemd has closed
// its own by then, so this is the last chance of whoever is in a backlog: the
// kernel resets those whose listening socket goes. Datagrams are answered from
// the socket itself, so their sessions end here.
func (s *server) letGo() {
	if s.relay != nil {
		s.relay.close()
		s.relay = nil
	}
	s.listening.Lock()
	listeners := s.listeners
	s.listeners = nil
	s.listening.Unlock()
	for _, l := range listeners {
		if !l.lent { // of the others the stand-in keeps who waits
			l.takeRest(s.acceptAll)
		}
		l.Close()
	}
}

// takeRest accepts who is in the backlog, and waits for nobody. The accept loop
// has ended.
func (l *listener) takeRest(acceptAll func(*listener)) {
	l.last = true
	l.Unwake()
	acceptAll(l)
	l.last = false
}
