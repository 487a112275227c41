package web

func (p *Pages) liveRoutes() {}
