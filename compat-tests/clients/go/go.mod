// Names the client whose own tests `run` runs; nothing is built from here.
module oxkeeper.org/compat-tests/clients/go

go 1.19

require github.com/go-zookeeper/zk v1.0.4 // indirect
