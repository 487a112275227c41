package web

import "latchkey.dev/latchkey"

func (p *Pages) doctorRoutes() {
	p.signedIn("GET /doctor", p.doctorPage)
	p.signedIn("POST /doctor", p.runDoctor)
}

// wholeInstallation is no name of an environment.
const wholeInstallation = "*"

type doctorPage struct {
	shell
	Of      []option // what can be looked at
	Form    form
	Report  *latchkey.DoctorReport
	Areas   []doctorArea
	Failed  int
	Warned  int
	Unknown int
}

type doctorArea struct {
	Key      string
	Findings []latchkey.Finding
}

// doctor returns the page with what one may have looked at: the installation for
// tenant admins, and environments for their admins and auditors.
func (v *view) doctor(f form) doctorPage {
	page := doctorPage{shell: v.shell(v.t("doctor.title"), "doctor"), Form: f}
	if v.me.TenantAdmin {
		page.Of = append(page.Of, option{wholeInstallation, v.t("doctor.installation")})
	}
	for _, e := range v.environments {
		if (latchkey.Access{Environment: []latchkey.EnvironmentRole{e.MyRole}}).Can(latchkey.ActDoctorIn) {
			page.Of = append(page.Of, option{e.Name, e.DisplayName})
		}
	}
	return page
}

// doctorPage offers to look at the prerequisites. It does not by itself: that asks
// vaults and Azure, and is on record.
func (p *Pages) doctorPage(v *view) error {
	var f form
	f.set("environment", v.value("environment"))
	return v.show("doctor", v.doctor(f))
}

func (p *Pages) runDoctor(v *view) error {
	f := v.filled()
	env := v.value("environment")
	if env == wholeInstallation {
		env = ""
	}
	report, err := p.b.Doctor(v.r.Context(), v.who, latchkey.DoctorOptions{Environment: env, Offline: v.value("offline") == "true"})
	if err != nil {
		status, err := v.refused(&f, err)
		if err != nil {
			return err
		}
		return v.showWith(status, "doctor", v.doctor(f))
	}
	page := v.doctor(f)
	page.Report = &report
	for _, finding := range report.Findings {
		switch finding.State {
		case latchkey.FindingFailed:
			page.Failed++
		case latchkey.FindingWarning:
			page.Warned++
		case latchkey.FindingUnknown:
			page.Unknown++
		}
		if n := len(page.Areas); n == 0 || page.Areas[n-1].Key != finding.Area {
			page.Areas = append(page.Areas, doctorArea{Key: finding.Area})
		}
		last := &page.Areas[len(page.Areas)-1]
		last.Findings = append(last.Findings, finding)
	}
	return v.show("doctor", page)
}
