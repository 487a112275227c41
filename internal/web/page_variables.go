package web

func (p *Pages) variableRoutes() {}
