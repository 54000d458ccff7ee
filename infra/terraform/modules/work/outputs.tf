output "name" {
  description = "Name of the bucket."
  value       = aws_s3_bucket.this.id
}

output "policy_arns" {
  description = "Duty (`bases`, `trainer`, `runs`, `registry`) to ARN of its policy."
  value       = { for name, policy in aws_iam_policy.this : name => policy.arn }
}
