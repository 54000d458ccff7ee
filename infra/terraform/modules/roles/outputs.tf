output "role_arns" {
  description = "Name of a role to its ARN, for the ServiceAccount's annotation `eks.amazonaws.com/role-arn`."
  value       = { for name, role in aws_iam_role.this : name => role.arn }
}
