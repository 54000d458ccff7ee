# A role for each duty that pods have. One ServiceAccount of one cluster may take it (EKS: IAM roles for service accounts).

locals {
  attachments = merge([
    for name, role in var.roles : { for policy in role.policies : "${name}/${policy}" => { role = name, policy = policy } }
  ]...)
}

resource "aws_iam_role" "this" {
  for_each = var.roles

  name                 = "${var.name_prefix}-${each.key}"
  max_session_duration = 3600
  tags                 = var.tags
  assume_role_policy = templatefile("${path.module}/../../policies/trust.json.tftpl", {
    oidc_provider_arn = var.oidc_provider.arn
    oidc_issuer       = trimprefix(var.oidc_provider.issuer, "https://")
    namespace         = each.value.namespace
    service_account   = each.value.service_account
  })
}

resource "aws_iam_role_policy_attachment" "this" {
  for_each = local.attachments

  role       = aws_iam_role.this[each.value.role].name
  policy_arn = var.policy_arns[each.value.policy]
}
