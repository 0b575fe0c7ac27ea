# Flow down a channel: the velocity through a cross-section of a power-law fluid. (`Channel` is
# Julia's own.)

"""
    ChannelFlow(grid; no_slip, smallest, least_fluidity=0)

Velocity v out of a section, x across and y up, of a fluid that its weight drives:

    R = div(eta grad v) + f,    1/eta = gamma^(1-n) / k + least_fluidity,
    gamma^2 = (dv/dx)^2 + (dv/dy)^2 + smallest^2.

v = 0 on the sides in `no_slip` (`:x_min`, `:x_max`, ...); on the others there is no stress. The
viscosity is that of the corners between cells, where k and n are means of the cells around and
each square in gamma^2 that of the two differences nearest, with mirror images of v beyond the
sides; on a face it is the mean of its ends'. So R is the gradient of a sum over the corners.

Unknown: `velocity`. Parameters: `prefactor` (k), `driving_force` (f) and `exponent` (n), one value
a cell.
"""
struct ChannelFlow <: Model{2}
    grid::Grid{2}
    no_slip::Vector{Symbol}
    smallest::Float64
    least_fluidity::Float64

    function ChannelFlow(grid::Grid; no_slip, smallest::Real, least_fluidity::Real=0)
        grid isa Grid{2} || throw(ArgumentError("grid: found $(length(grid.shape)) axes, expected 2"))
        isempty(no_slip) && throw(ArgumentError("no_slip: found no side, expected one at least"))
        foreach(side -> check_side(grid, side), no_slip)
        smallest > 0 || throw(ArgumentError("smallest: found $smallest, expected a positive number"))
        least_fluidity >= 0 ||
            throw(ArgumentError("least_fluidity: found $least_fluidity, expected none or more"))
        return new(grid, collect(Symbol, no_slip), smallest, least_fluidity)
    end
end

from_table(::Type{ChannelFlow}, grid::Grid, table) = ChannelFlow(grid; no_slip=Symbol.(table["no_slip"]),
    smallest=table["smallest"], least_fluidity=table["least_fluidity"])

parameters(::ChannelFlow) = (; prefactor=:cells, driving_force=:cells, exponent=:cells)

stencil(::ChannelFlow) = box(Val(2))   # corners see four cells

"""
1/k and (1 - n)/2 at the upper corner of each cell, f, and along each axis what turns v of the last
cell into that of its image: -1 or 1 beyond the sides, 0 in the grid.
"""
coefficients(::ChannelFlow, field) = (; fluidity=field(), power=field(), driving_force=field(),
    mirror=(field(), field()))

function assembly(model::ChannelFlow, ::Type{T}, block::Block{2}) where {T}
    # Of the cells that are there: beyond the block's own, the neighbours'.
    low = ntuple(d -> first(block.own[d]) - !ends(block, d)[1], 2)
    high = ntuple(d -> last(block.own[d]) + !ends(block, d)[2], 2)
    corners = map(own -> (first(own) - 1):last(own), block.own)
    beyond = [Mirror(d, T(side in model.no_slip ? -1 : 1)) => outside(block, d, upper)
              for (side, (d, upper)) in SIDES if d <= 2]
    return Pair[Copied(:driving_force) => block.own; CornerMeans(low, high) => corners; beyond]
end

"The layer beyond the grid's lower (`false`) or upper (`true`) end of axis `d`, corners included."
function outside(block::Block{2}, d, upper::Bool)
    own = block.own[d]
    at = upper ? last(own) + 1 : first(own) - 1
    all_around = map(r -> (first(r) - 1):(last(r) + 1), block.own)
    return Base.setindex(all_around, ends(block, d)[1 + upper] ? (at:at) : (1:0), d)
end

struct CornerMeans
    low::NTuple{2,Int}
    high::NTuple{2,Int}
end
@inline function (means::CornerMeans)(c, m, I)
    a, b = clamp.(I, means.low, means.high), clamp.(I .+ 1, means.low, means.high)
    k, n = around(m.prefactor, a, b), around(m.exponent, a, b)
    @inbounds c.fluidity[I...] = 1 / k
    @inbounds c.power[I...] = (1 - n) / 2
    return
end

"The mean of four cells."
@inline around(f, a, b) =
    @inbounds ((f[a[1], a[2]] + f[b[1], a[2]]) / 2 + (f[a[1], b[2]] + f[b[1], b[2]]) / 2) / 2

struct Mirror{T}
    axis::Int
    factor::T
end
@inline function (mirror::Mirror)(c, _, I)
    @inbounds c.mirror[mirror.axis][I...] = mirror.factor
    return
end
is_constant(::Mirror) = true

"div(eta grad v) + f in one cell."
struct PowerLaw
    h::NTuple{2,Float64}
    smallest::Float64
    least_fluidity::Float64
end
equation(model::ChannelFlow) = PowerLaw(spacing(model.grid), model.smallest, model.least_fluidity)
@inline function (law::PowerLaw)(v, c, I)
    W, S = down(I, 1), down(I, 2)
    # At the corners above and below, to the left and to the right.
    ne, nw = corner_viscosity(law, v, c, I), corner_viscosity(law, v, c, W)
    se, sw = corner_viscosity(law, v, c, S), corner_viscosity(law, v, c, down(W, 2))
    hx, hy = oftype.(ne, law.h)
    east = (ne + se) / 2 * step_along(v, c, I, 1)
    west = (nw + sw) / 2 * step_along(v, c, W, 1)
    north = (ne + nw) / 2 * step_along(v, c, I, 2)
    south = (se + sw) / 2 * step_along(v, c, S, 2)
    return @inbounds c.driving_force[I...] + (east - west) / hx^2 + (north - south) / hy^2
end

"The difference of v between a cell and the next along an axis; beyond a side, the image of the last cell."
@inline function step_along(v, c, I, d)
    J = up(I, d)
    @inbounds begin
        here, next = c.mirror[d][I...], c.mirror[d][J...]
        a = here == 0 ? v[I...] : here * v[J...]
        b = next == 0 ? v[J...] : next * v[I...]
    end
    return b - a
end

"eta at the upper corner of a cell."
@inline function corner_viscosity(law, v, c, I)
    @inbounds begin
        power = c.power[I...]
        T = typeof(power)
        square = steps_squared(v, c, I, 1, 2) / T(law.h[1])^2 +
                 steps_squared(v, c, I, 2, 1) / T(law.h[2])^2 + T(law.smallest)^2
        return 1 / (c.fluidity[I...] * square^power + T(law.least_fluidity))
    end
end

"The mean square of the steps along `d` on either side of a corner, which are alike at the other axis' sides."
@inline function steps_squared(v, c, I, d, other)
    J = up(I, other)
    here, next = @inbounds c.mirror[other][I...], c.mirror[other][J...]
    a = step_along(v, c, here == 0 ? I : J, d)
    b = step_along(v, c, next == 0 ? J : I, d)
    return (a^2 + b^2) / 2
end
