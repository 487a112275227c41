package main

// What Microsoft's tests need themselves, so that go mod download fetches it.
import (
	_ "github.com/Azure/azure-sdk-for-go/sdk/azcore"
	_ "github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	_ "github.com/stretchr/testify/require"
)
