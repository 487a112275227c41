package web

func (p *Pages) environmentRoutes() {}
