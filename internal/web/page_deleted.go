package web

func (p *Pages) deletedRoutes() {}
