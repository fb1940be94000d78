-- rules: what things cost, for rules.c. Loaded once; price is called for each order.
local neap = require "neap"
local model, field = neap.model, neap.field

local Product = model.define("product", {
  sku   = field.string  { primary_key = true },
  cents = field.integer { required = true, min = 0 },
  kind  = field.string  { index = true },
})

local discounts = { book = 0.05, tea = 0 }

--- stock(): the products of the example.
function stock() -- luacheck: ignore
  for sku, p in pairs { tea = { 300, "tea" }, lua = { 4000, "book" } } do
    Product:upsert { sku = sku, cents = p[1], kind = p[2] }
  end
end

--- price(sku, count): cents for so many of a product, with what its kind takes off; an error of
-- code "shop.unknown" if there is none.
function price(sku, count) -- luacheck: ignore
  local product = Product:load(sku)            -- waits; other orders go on
  if not product then
    error(neap.error { code = "shop.unknown", message = "no product " .. sku })
  end
  local total = product.cents * count
  if count >= 10 then total = total * 0.9 end
  return math.floor(total * (1 - (discounts[product.kind] or 0)))
end
