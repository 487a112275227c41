package web

func (p *Pages) principalRoutes() {}
