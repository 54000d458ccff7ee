output "store" {
  description = "For SOFTPROMPT_STORE."
  value       = var.prefix == "" ? "s3://${module.bucket.name}" : "s3://${module.bucket.name}/${var.prefix}"
}

output "signers" {
  description = "Channel to the URI of its key, for SOFTPROMPT_SIGNER."
  value       = { for channel, key in module.signing_key : channel => key.signer }
}

output "policy_arns" {
  description = "Duty to ARN of its policy; attach each to the identity that has the duty."
  value       = local.policy_arns
}

output "role_arns" {
  description = "Name of a role to its ARN, for the chart's `serviceAccounts`."
  value       = one(module.roles[*].role_arns)
}
