package seal

import (
	"encoding/json"
	"fmt"
	"reflect"
	"testing"
	"time"
)

// tamper calls check with a copy of v for every single field of it, however
// deep, that is changed in it. Lists are also cut and repeated.
func tamper[T any](t *testing.T, v T, skip string, check func(field string, changed T)) {
	t.Helper()
	n := 0
	var walk func(path string, at func(reflect.Value) reflect.Value, typ reflect.Value)
	each := func(path string, at func(reflect.Value) reflect.Value, change func(reflect.Value)) {
		c := clone(t, v)
		change(at(reflect.ValueOf(&c).Elem()))
		n++
		check(path, c)
	}
	walk = func(path string, at func(reflect.Value) reflect.Value, now reflect.Value) {
		if now.Type() == reflect.TypeFor[time.Time]() {
			each(path, at, func(f reflect.Value) {
				f.Set(reflect.ValueOf(f.Interface().(time.Time).Add(time.Millisecond)))
			})
			return
		}
		switch now.Kind() {
		case reflect.Struct:
			for i := range now.NumField() {
				name := now.Type().Field(i).Name
				if path == "" && name == skip {
					continue
				}
				walk(path+"."+name, func(r reflect.Value) reflect.Value { return at(r).Field(i) }, now.Field(i))
			}
		case reflect.String:
			each(path, at, func(f reflect.Value) { f.SetString(f.String() + "x") })
			each(path+" emptied", at, func(f reflect.Value) { f.SetString("") })
		case reflect.Bool:
			each(path, at, func(f reflect.Value) { f.SetBool(!f.Bool()) })
		case reflect.Int64:
			each(path, at, func(f reflect.Value) { f.SetInt(f.Int() + 1) })
		case reflect.Slice:
			if now.Len() == 0 {
				t.Fatalf("%s is empty: the test would not see it", path)
			}
			if now.Type().Elem().Kind() == reflect.Uint8 {
				each(path, at, func(f reflect.Value) { f.Index(0).SetUint(f.Index(0).Uint() ^ 1) })
				each(path+" end", at, func(f reflect.Value) { e := f.Index(f.Len() - 1); e.SetUint(e.Uint() ^ 0x40) })
			}
			each(path+" cut", at, func(f reflect.Value) { f.SetLen(f.Len() - 1) })
			each(path+" longer", at, func(f reflect.Value) { f.Set(reflect.Append(f, f.Index(0))) })
			each(path+" emptied", at, func(f reflect.Value) { f.SetZero() })
			if now.Type().Elem().Kind() == reflect.String {
				for i := range now.Len() {
					walk(fmt.Sprintf("%s[%d]", path, i), func(r reflect.Value) reflect.Value { return at(r).Index(i) }, now.Index(i))
				}
			}
		default:
			t.Fatalf("%s: no way to change a %s", path, now.Kind())
		}
	}
	walk("", func(r reflect.Value) reflect.Value { return r }, reflect.ValueOf(v))
	if n == 0 {
		t.Fatal("nothing was changed")
	}
}

func clone[T any](t *testing.T, v T) T {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var c T
	if err := json.Unmarshal(b, &c); err != nil {
		t.Fatal(err)
	}
	return c
}
