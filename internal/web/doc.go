// Package web is the pages: what people see and do in a browser.
//
// A page is a handler in page_*.go, a struct that it fills, and a template with
// the same name. Every page works without script: links, forms, and a redirect
// after what a form did. With script, links marked as panels open beside the
// list, parts of pages follow what happens, and searches answer while one types;
// each by asking the same address, which then answers with that part alone.
//
// Handlers decide nothing: they ask the broker as the person who is signed in.
// What is said to people is in locales, one file for each language.
package web
