package server

import (
	"context"

	"latchkey.dev/internal/broker"
	"latchkey.dev/latchkey"
)

// InVariable is the part of a request that names a variable.
type InVariable struct {
	InEnv
	Name string `path:"name" doc:"unique name or id of the variable" example:"new_ERPuser"`
}

type variableIn struct{ InVariable }

type variableDeleteIn struct {
	InVariable
	Forcing
}

type variablesIn struct {
	InEnv
	SortedPaging
	Type latchkey.VariableType `query:"type" enum:"text,number,boolean,json,secret" doc:"only variables of this type"`
}

func (s *server) variables(ctx context.Context, who latchkey.Caller, in *variablesIn) (*listOf[latchkey.Variable], error) {
	return list(s.b.Variables(ctx, who, in.Env, broker.VariableFilter{Type: in.Type}, in.options()))
}

func (s *server) createVariable(ctx context.Context, who latchkey.Caller, in *envBody[latchkey.VariableCreate]) (*created[latchkey.Variable], error) {
	v, err := s.b.CreateVariable(ctx, who, in.Env, in.Body)
	return at(v, "environments", in.Env, "variables", v.Name), err
}

func (s *server) variable(ctx context.Context, who latchkey.Caller, in *variableIn) (*one[latchkey.Variable], error) {
	return show(s.b.Variable(ctx, who, in.Env, in.Name))
}

type variableUpdateIn struct {
	InVariable
	Body latchkey.VariableUpdate
}

func (s *server) updateVariable(ctx context.Context, who latchkey.Caller, in *variableUpdateIn) (*one[latchkey.Variable], error) {
	return show(s.b.UpdateVariable(ctx, who, in.Env, in.Name, in.Body))
}

func (s *server) deleteVariable(ctx context.Context, who latchkey.Caller, in *variableDeleteIn) (*none, error) {
	return done(s.b.DeleteVariable(ctx, who, in.Env, in.Name, in.force()))
}

func (s *server) checkVariable(ctx context.Context, who latchkey.Caller, in *variableIn) (*one[latchkey.Variable], error) {
	return show(s.b.CheckVariable(ctx, who, in.Env, in.Name))
}

type overrideIn struct {
	InVariable
	Body checkOverride
}

type checkOverride struct {
	Reference string `json:"reference" doc:"ARM id of the reference that is meant; refused when the variable's is another by now"`
	Reason    string `json:"reason" doc:"why, for the audit log"`
}

func (s *server) overrideCheck(ctx context.Context, who latchkey.Caller, in *overrideIn) (*one[latchkey.Variable], error) {
	return show(s.b.OverrideCheck(ctx, who, in.Env, in.Name, in.Body.Reference, in.Body.Reason))
}

func (s *server) checkReference(ctx context.Context, who latchkey.Caller, in *envBody[latchkey.SecretReference]) (*one[latchkey.Check], error) {
	return show(s.b.CheckReference(ctx, who, in.Env, in.Body))
}
