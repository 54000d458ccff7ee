# One bucket for the channels of one trust root, a signing key for each channel, a policy for each duty; and where wanted, a bucket
# that runs work in, and roles for pods.

module "bucket" {
  source = "./modules/bucket"

  name               = var.bucket
  prefix             = var.prefix
  retention_mode     = var.retention_mode
  retention_days     = var.retention_days
  encryption_key_arn = var.encryption_key_arn
  tags               = var.tags
}

module "signing_key" {
  source   = "./modules/signing_key"
  for_each = var.channels

  channel = each.key
  tags    = var.tags
}

module "duties" {
  source = "./modules/duties"

  bucket_arn = module.bucket.arn
  prefix     = var.prefix
  channels   = var.channels
  tags       = var.tags
}

locals {
  policy_arns = merge(
    module.duties.policy_arns,
    { for channel, key in module.signing_key : "sign-${channel}" => key.sign_policy_arn },
    module.work[*].policy_arns...
  )
}

module "work" {
  source = "./modules/work"
  count  = var.work_bucket == "" ? 0 : 1

  name               = var.work_bucket
  encryption_key_arn = var.encryption_key_arn
  tags               = var.tags
}

module "roles" {
  source = "./modules/roles"
  count  = length(var.roles) > 0 ? 1 : 0

  oidc_provider = var.oidc_provider
  roles         = var.roles
  policy_arns   = local.policy_arns
  tags          = var.tags
}
