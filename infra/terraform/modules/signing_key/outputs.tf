output "signer" {
  description = "For SOFTPROMPT_SIGNER, and for `softprompt release keygen --signer`."
  value       = "awskms:${aws_kms_alias.this.name}"
}

output "sign_policy_arn" {
  description = "Policy for the publisher's identity."
  value       = aws_iam_policy.sign.arn
}
