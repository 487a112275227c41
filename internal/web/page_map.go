package web

func (p *Pages) mapRoutes() {}
