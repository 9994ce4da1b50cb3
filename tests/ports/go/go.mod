module xlattice-port

go 1.26
