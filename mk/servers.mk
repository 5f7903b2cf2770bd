# S3 servers: installed, started on random ports, tested, stopped; ends with a table server × property.
# SERVERS="conforming directory moto rclone s3s-fs" picks some; ROUNDS sets the rounds of the race (20).
.PHONY: test-servers
test-servers: ## Run the contract and the races on our server's modes, a directory, moto, rclone and s3s-fs
	tests/servers/run.sh $(SERVERS)
