package web

func (p *Pages) machineRoutes() {}
