package web

func (p *Pages) runRoutes() {}
