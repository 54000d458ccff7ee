output "policy_arns" {
  description = "Duty, with its channel where it has one, to ARN of its policy: `publisher-production`, `gc`."
  value       = { for name, policy in aws_iam_policy.this : name => policy.arn }
}
