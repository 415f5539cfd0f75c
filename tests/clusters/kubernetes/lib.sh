# Shared by the scripts beside this file; sourced, never run. What a cluster of one node consists of, and where it is.
source "$(dirname "${BASH_SOURCE[0]}")/../../../scripts/lib.sh"
PATH=$PATH:/usr/sbin:/sbin:/usr/local/go/bin

version=v1.33.13 # the last whose kubelet runs on cgroup v1, too
go_needed=1.24
parts=(kube-apiserver kube-controller-manager kube-scheduler kubelet kubectl)
packages=(etcd-server containernetworking-plugins)

# What is built or unpacked once.
place=${KUBERNETES_DIR:-${CARGO_TARGET_DIR:-$root/target}/clusters/kubernetes}
bin=$place/bin
unpacked=$place/unpacked

# What one run needs.
run=${KUBERNETES_RUN:-/var/tmp/tidegate-chaos/kubernetes}
group=/tidegate-kubernetes # of cgroups

# The node and its API; pods are beside it, and so is this machine, by one link.
link=tgkube
node=10.90.0.1
here=10.90.0.2
pods=10.90.0.0/16
services=10.91.0.0/24
api=https://$node:16443
export KUBECONFIG=$run/certs/admin.conf

# Go's caches are beside what is built from them, and go with them.
export GOPATH=$place/go GOCACHE=$place/go/cache GOFLAGS=-modcacherw GOTOOLCHAIN=local

# Where cgroups are made: once for each controller, or once.
controllers() {
    if [ -e /sys/fs/cgroup/cgroup.controllers ]; then echo /sys/fs/cgroup; else find /sys/fs/cgroup -mindepth 1 -maxdepth 1 -type d; fi
}
