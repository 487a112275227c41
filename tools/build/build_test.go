package build

import "testing"

func TestVersion(t *testing.T) {
	tests := []struct{ describe, want string }{
		{"", DevelopmentVersion},
		{"nonsense", DevelopmentVersion},
		{"v1.2.3", "1.2.3"},
		{"v1.2.3-rc1", "1.2.3~rc1"},
		{"v1.2.3-5-g0a1b2c3", "1.2.3+5.g0a1b2c3"},
		{"v1.2.3-rc.1-5-g0a1b2c3", "1.2.3~rc.1+5.g0a1b2c3"},
	}
	for _, tt := range tests {
		if got := version(tt.describe); got != tt.want {
			t.Errorf("version(%q) = %q; want %q", tt.describe, got, tt.want)
		}
	}
}
