# Real S3 servers: installed, started on random ports, tested, stopped; ends with a table server × property.
# SERVERS="moto rclone s3s-fs" picks some; ROUNDS sets the rounds of the race.
.PHONY: test-servers
test-servers: ## Run the contract and the races against moto, rclone and s3s-fs
	tests/servers/run.sh $(SERVERS)
