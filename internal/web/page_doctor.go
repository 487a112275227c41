package web

func (p *Pages) doctorRoutes() {}
