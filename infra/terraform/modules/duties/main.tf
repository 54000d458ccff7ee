# What each duty may do, as IAM policies to attach to the identities that have it. The templates are tried with keys of their own
# in tests/integration/release/test_duties.py.

locals {
  prefix        = var.prefix == "" ? "" : "${var.prefix}/"
  of_a_channel  = ["publisher", "pipeline", "reader", "reviewer"]
  of_the_bucket = ["auditor", "gc", "keeper"]
  duties = merge(
    { for pair in setproduct(local.of_a_channel, var.channels) : "${pair[0]}-${pair[1]}" => { duty = pair[0], channel = pair[1] } },
    { for duty in local.of_the_bucket : duty => { duty = duty, channel = "" } },
  )
}

resource "aws_iam_policy" "this" {
  for_each = local.duties

  name = "${var.name_prefix}-${each.key}"
  tags = var.tags
  policy = templatefile("${path.module}/../../policies/${each.value.duty}.json.tftpl", {
    bucket_arn = var.bucket_arn
    prefix     = local.prefix
    channel    = each.value.channel
  })
}
