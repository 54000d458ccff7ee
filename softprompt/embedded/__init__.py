"""What a laptop has in place of a cluster's services and a company's data: base model, dataset, S3 server, MLflow."""
