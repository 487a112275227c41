package web

func (p *Pages) oidcRoutes() {}
