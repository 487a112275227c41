package web

func (p *Pages) flowRoutes() {}
