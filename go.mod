module latchkey.dev

go 1.26

