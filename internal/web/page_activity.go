package web

func (p *Pages) activityRoutes() {}
