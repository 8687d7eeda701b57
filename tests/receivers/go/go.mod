module kiket.dev/receiver

go 1.19
