package web

func (p *Pages) connectionRoutes() {}
