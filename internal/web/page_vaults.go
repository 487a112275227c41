package web

func (p *Pages) vaultRoutes() {}
