# The front door. Each target installs what it lacks through scripts/setup.
# ENGINE, given on the command line or in the environment, reaches the benches.

PREFIX ?= /usr/local

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Watch a cold start, a scale-out and a scale to zero, without Docker (root or sudo; ENGINE=docker with it)
	@scripts/setup build $(filter docker,$(ENGINE))
	@scripts/with-docker scripts/demo

test: ## Run every check: format, lints, documentation, tests, simulation, suites on both engines, licences
	@scripts/setup test
	@scripts/with-docker scripts/test

install: ## Build the release binary and put it into /usr/local/bin (DESTDIR and PREFIX apply)
	@scripts/setup build
	@scripts/install "$(DESTDIR)$(PREFIX)/bin"

bench-wake: ## Measure a wake against a bare container start; ENGINE=embedded against Docker's, swarm or kubernetes on a cluster (root)
	@scripts/setup build docker $(if $(filter swarm,$(ENGINE)),chaos) $(if $(filter kubernetes,$(ENGINE)),clusters)
	@scripts/awake scripts/with-docker scripts/bench-wake

bench-density: ## Measure two hundred replicas at once on Tidegate's own engine (root)
	@scripts/setup build
	@scripts/bench-density

bench-stampede: ## Measure a thousand first requests at once
	@scripts/setup build docker
	@scripts/awake scripts/with-docker scripts/bench-stampede

bench-control: ## Measure what ten thousand idle services cost, and how many replicas are started per second
	@scripts/setup build
	@scripts/awake scripts/bench-control

bench-choice: ## Measure what admission and the choice of a replica cost, without sockets
	@scripts/setup build
	@scripts/bench-choice

bench-scale: ## Compare the scaling laws on real and synthetic traffic; TRACES=DIR for the traces, FULL=1 for all of them
	@scripts/setup build
	@scripts/bench-scale

bench-steps: ## Measure a service of 100 ms from nothing to 3000 requests per second (root)
	@scripts/setup build
	@scripts/awake scripts/bench-steps

bench-live: ## Compare the simulation with what a real gateway does under the same traffic (root)
	@scripts/setup build
	@scripts/awake scripts/bench-live

bench-proxy: ## Measure the cost of proxying against nginx, HAProxy and Caddy
	@scripts/setup bench
	@scripts/awake scripts/with-docker scripts/bench-proxy

bench-load: ## Measure how much load one core sends, against oha, wrk and hey
	@scripts/setup load
	@scripts/awake scripts/bench-load

bench-churn: ## Measure availability while replicas, engines and the gateway are killed at random (root)
	@scripts/setup chaos
	@scripts/with-docker scripts/bench-churn

chaos: ## Try every failure mode on real engines in network namespaces (root)
	@scripts/setup chaos
	@scripts/with-docker scripts/chaos

test-clusters: ## Try Docker Swarm and Kubernetes as engines, on real clusters in namespaces (root; CASES=S2,K6 for some)
	@scripts/setup clusters
	@scripts/with-docker scripts/test-clusters

conformance: ## Try the gateway against the RFCs, real origins and hostile clients (root or sudo; PARTS=a,b for some)
	@scripts/setup conformance
	@scripts/with-docker scripts/conformance

.PHONY: help demo test install bench-wake bench-density bench-stampede bench-control bench-choice bench-scale bench-steps bench-live bench-proxy bench-load bench-churn chaos test-clusters conformance
