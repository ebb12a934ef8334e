"""What deployments are made of, checked as far as is possible without an engine to run them."""
