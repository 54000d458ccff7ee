# One bucket for the channels of one trust root, a signing key for each channel, and a policy for each duty.

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
