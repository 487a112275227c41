package web

func (p *Pages) findRoutes() {}
