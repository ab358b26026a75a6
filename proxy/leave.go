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
	for _, l := range s.listeners {
		l.last = true
		l.Unwake()
		s.acceptAll(l)
		l.Close()
	}
	s.listeners = nil
}
