package web

func (p *Pages) accountRoutes() {}
