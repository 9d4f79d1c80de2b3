"""A real Envoy, a scripted provider and a client: what every test in this folder is made of."""
