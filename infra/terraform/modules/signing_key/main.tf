# A publishing key that never leaves the key service. ECDSA P-256: securesystemslib's KMS signers have no Ed25519.

resource "aws_kms_key" "this" {
  description              = "softprompt: signs generations of the channel ${var.channel}"
  key_usage                = "SIGN_VERIFY"
  customer_master_key_spec = "ECC_NIST_P256"
  deletion_window_in_days  = 30
  tags                     = var.tags
}

resource "aws_kms_alias" "this" {
  name          = "alias/softprompt-${var.channel}"
  target_key_id = aws_kms_key.this.key_id
}

resource "aws_iam_policy" "sign" {
  name   = "${var.name_prefix}-sign-${var.channel}"
  policy = templatefile("${path.module}/../../policies/sign.json.tftpl", { key_arn = aws_kms_key.this.arn })
  tags   = var.tags
}
