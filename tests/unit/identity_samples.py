"""Model files written by libraries that the tests do not have: how each was made, then its bytes, deflated, in base 85."""

from __future__ import annotations

import base64
import zlib

_FILES: dict[str, str] = {
    # xgboost-cpu 3.2.0: train({'booster': 'dart', 'objective': 'reg:squarederror'}, 60 random rows of 4, 3 rounds), save_model
    "dart.ubj": (
        "c-rk&y>AmS6u*4Xh@>f@o!F4*gao2M8IVdT5>vZXOcAo2^UKw6XQ#FkKB5#R1}0`kCbqINlmRw`SP=^|{SOdGfbWvnzUu{1sY6xOQKFpRFYn{`elL3cHE(z-"
        "Az;Bk^v4%ftdyXwt^(N~j4$hLz^W?%F&u$xo*UnLdjRTDCl}BN1SS-iLM_gvaso~TEhPZV^NENP2+d>J$4Z)~5->l{`#8LWAksl(b3WXQs!A>t5Jbttl--m$"
        "J4^*78K4dpI5Lq>vu>1Jg`u{^u=TO2urU61G6uyqX^mHm`v%o@V?{Ybl#z}SwvsaSXn_`K$#_Z<p{&g<sH8#qWr#`wIcAgVbPG#B4}b<6F%`r@E<am+{_ae)"
        "d*jrXnxREA3;`Du@@Z>WJ7SudeAJwSvRzpFw>wE6Lq2MnKpS^Mg+gen=KLL7f&(g2V(F;INaSzOkO*LIj`2?le@4dy2)UFRj#&U{j#h$SpR?&ybmz0WDm~He"
        "vcMS;lRhzxVm6J2?1WU~IU_VyMmm+{snz${cGZW!&<dh{x)&wSIac%uJf6!*G}fe6?FL9mF-wKN)$zQQ@B012@s|iQJsY)H_IhMMPnQ+`rIdLzq1JpgH8hE^"
        "oT0J&Xo+YM;5O=kueflgZZP-{#lJoKb8F}8w^vJ_X5SnQ#TO1-@i%w3KOQ2*XWMnG`28uKY@OeEx&3?T#fR5NL-ECfSN#3JJ4}ktwCh;$R`F(iD#y#`dS-2$"
        "U@a3Yl*w&4C5Q;#an>cW{M7U8hw(HwT8VSlz-lsf(&tW@GtI?|3)kYac>BV_U9(Lln=Wb#9wFS*n_n<-W%NTV<^EZ%ChH~^0VtO;<C?ebX+CMsF4t+68Uljr"
        "a<i*-Pe2GRtimBc$?&ABZ%7}9S{Yo9{(15{RngT-Ep&HvE$Qvn8~g>KgSnC"
    ),
    # xgboost-cpu 3.2.0: train({'booster': 'gblinear'}, the same), save_model
    "lin.ubj": (
        "c-n1Iu};H43@xNpDTt~9z5rN3M4}7~h=r|N#|oXC#0`g%yI^06P}GSH^^+){Q3;8WpJ1bDdzT98$$rmgzvnA@wPiFD1X4(a1$Mz0l0j~ei?IdwhX^Jo6be%0"
        "!HLCd{~F9owy~iT6GRe~5rNih))qEW9bw|i_L7eT>0CuDJ*V^;W&B`xa2mPsjhmm_*N@}++w{BlIsKaS-)BcNr@CIM?b~W64ic&6ZXJKP@-7w%L<R(Db%y{L"
        "1&5ld5$!?u+`lTLdw1sFTliohSqw?10!By>S5LNlo3&J)iZB7@ioCGdUP-QQSkaeGOi3G{7|q&bXQZWrM+}V|VX@hJhcLe8ryK|)B+}#@%?Xic=0EN`972L3"
        "(=3)}Utc?Ri<@(|EVZgW+>@T%mbLLOS67Tc"
    ),
    # h5py 3.16.0, libver='earliest': attributes keras_version, model_config (both str), backend
    "earliest_vlen.h5": (
        "c-rlh!AiqG5QaC2%2KRW@SvW;o~2O4izh`>0}2-LAc&-EvX$C&14%1N>0RH%NAaz6lT6BPE{b^4`7XoG?EW($!~g1^beoNx2Fan6ERhz``2fgP?F{rGS`c3#"
        "zS&iNxv0T&rC#d0j`{HF((`ovdLQI}<9kQFJYK_@LVUN)d(|HHeyQ&U>}!3mSBVe(*2t!sW+YOc1&<=lhKW@9ZObZNwiYu{W4;ybBP>I&S?G<ENW?*y$ieWQ"
        "d_(U{)3Xb`L#We2?~aEfA)_yK98Jf;wL_3U&FS&QxkbPb>i(qIYj^hBozhblKBJhiFy>hnNIn+qz-8U33@6I^c+7TPR{EC8&scR~kn(91NHNLlF@IK0snR#M"
        "^SR+QRea!2#+?0i{8tEqAP9mW2!bF8@>4zmy7X1e"
    ),
    # h5py 3.16.0, libver='latest': the same, model_config as numpy.bytes_
    "latest_fixed.h5": (
        "c-rmNOH0E*5CGuWL^Om{OI1)$Wd%WyVv!#7B4Vk<3I(qsaZR>Tn`|Iy#ZvkM@~d?=4~>Wy@!(-TNOm)`kAWN}?RR@Md(Sp43rcSV*vY?-i}*#Ft_}O$TZ8R0"
        "qfuR1vJGGW+YMOxo^#FtOjw64ot(&6B<_ohlX0YAmocd0ar$A|RTdcdUd^W&9d|-~L=8iDL>T!paJ@*4#!s+`=>e|LyB6FFM3T5lgp!{%d2gn?DPAK2e$?do"
        "28=IwxnLBFneQq&)%ifou__GT-7lBUslL$4Ykm~oL@NKsYRyWudOknAJ^(@pA>=>0x*XnQO|1UeW}$4o=%m%|wAy)N)dt1*hfVgQVOGay@%p9ChYk8ygb+dq"
        "A%qY@$Zx#^#3plc"
    ),
    # h5py 3.16.0: f['x'] = [1, 2]
    "other.h5": (
        "c-rgqaB<`1lHy_j0S*oZ76t(ZWbhvf1UOLnF!=;1%?PDCp!5nRm^dR?P68?}2sIyFT}Y6tD@gT!Gyt>5fCWNxFpPqc2s~UJ13+{Hln+a#Czw#xRiLFu4+`yN"
        "WMGAu#R%g=QZgeWL;z+zjAjP93?u`}FOanA047<1JdijO6B8pO9Yf4vW`rea0W_N@49a*2_VafE<!D$wRA3%Wo1<V93{}90R(=5h-<&KH"
    ),
    # onnx 1.23.2: one MatMul, graph 'main_graph', save(save_as_external_data=True, location='weights.bin', size_threshold=0)
    "ext.onnx": (
        "c-rIO6XMLxPf5)wPb^B2Vl=esW#kg%Vyxg|3>RXoRATc@Eb%SP5#q{C%*=~VFG?)P&~oB%;BXLNbYcw866fN`$xlu!$;{6a;x13kOwTAO)=SFF%i`u@%TG%y"
        "PAw5)G|1xTV#`U*OE1X~Vl^}~wlFDRj1mS~A;ibU!@(%T!NtVE2*eIaK*36MK_?b21_40;SLY)W"
    ),
    # tensorflow-cpu 2.21.0: TFLiteConverter of a Keras model of two dense layers
    "m.tflite": (
        "c-nnbUr19?7(dgin>x%t)25D?(1XxeP7S2=%wbB#{F6$5NVpDm7o&M+*E=Do5PGqY5;F)fQIH;@2Z^X*?%uZ$>!F~a!5%_H?X3qRkn;AObI+Z_qzgaJIp6)h"
        "@AsYG`Oa}5g!<e4^)}>04rE6*RD`Txvmg%U2y6&F0sH`rXTcnBD+i%$SepPvh<y1pip1o@%F5!J07n2Lf;1Wyukk@46o^G+8pi=9HBIB#+yaQk<l&gi*CLji"
        "*xUDXACmLBAO%KvSrA8}67hjjPy_QzK`t|!mjYV5yDql%_H}f3@ttk`zO%l5A8_b360Y0~-=VO`OEFOn4+;FJAdQ5hBK4VuA|?P$fJIo(5*t8fvFoh1!L$x!"
        "ABAZSVmnT)xzuKGBDx<#YmV;i+imqx>cV(g7TXucYOHhDdEB5#7t@O5^teyCYtjDa|E*~~0EzjG0YrWluf0hsi`#8@cB&fJ%f;U9g{%1c;|GfGqszNn@*J1l"
        "`>L#zRI5`z*YWDj7m0B@r>@%XCTjdA)ZwF6d@1=-k=l}Y@BDjZ$x_uEU%rEP$Ia@_(<rXVnQs2IRpT{xJJisp89cMOg;Q(Icz&lEZ@a!UAKY^b;Kn;nbrxK~"
        "t8+eOa3hrnje5Poq=Jh#&Fa`>mfCV|IiZx#DbE%vykid=6B}}+GT<%s4!o^UH{x;J@JG`c0i>ro{T;o|)~E>QB@00}?H3zWqcE*3;V)!%(vM4kSAaOHX($jD"
        "jXt`Z5pSb9TTuavXJ>1%viS<sVDx7;+P@1RzeeKA55(J9yq(pdYh$L`kWf=b9-|(T%iu6EJ6t<74~s^?XV!P*|NT9}i%iBo9n7~OBNrKE@T-EcPY%dJC>H4n"
        "NOD+)ZWn^Bfk=e+oUWz*CKk7TNM6F{&&W&q`~&#a!x)kRu^=xBGVeJVgj*`W*cp&JW05n5{puAWu{0ma^IFsSikQwsj~ajr?3Mq`uh(Nq->-7o1Bi8j{+a2y"
        "WacL^F2DrjcO0IduS+xN{ss@>aL|)AUQ9&K)ZifOP6iWu3k}WmH;<#W9{cxw<TKwnIFhtRT*jMgrTvAdm9XdOym@~C1#T}i"
    ),
    # torch 2.13.0: save(nn.Linear(1, 1).state_dict())
    "sd.pt": (
        "c-ozmy>HV%7{<>@>Lzaa=ocle)PX68lEz7#4+*F+$cqO;0LkiNInFh<aO0kRX$4XxBvcR*69a5ajO>U7Soi}fu@$CHO#BCkJ6}j`r%9!r<eZYczxRFo++#P?"
        "WD0<E8Vs!|un7G2THC-ze*3Yb$a7$0cs)y)rt3J+#J1b@g?nBbda!-hHnD)f)h6O{8c&+-Lc3#OlrXXDnO0u!VcYQq-Gi;3?X-0ayT0q`J4FE{b2)925I(6i"
        "IuNB8A}Ee);0NqS0ZnKesVN{{OOoB(?x9JQ!zg`U1uCa<FHnYU!Yhlan8IkfiOy-{Rzb@)e01I-bF7rb`iSU)74R1Wejm-yk6FgfVKm=F3%xybNz0I8eG6iP"
        "x`Gyi|1WFQEtK6uOM&nm==sD8w5)Qz@3-;|bu#_o`|95-WD>m^BORXwE7bA)rt57PSnoGd<fW60?=O+I|MchQb9x{28r^;Y+z8tDoz)G;?sT_c7b|jY%!Ki)"
        "Ql<jdchT<z8Ic$(U>c;TfYuWXU78a`2Eef~b|CGsfAc6yqr#8vkpXx9r*f^J$m?eo-d{hQcVFoAZ?`uOX*yD;OrID`7ZsTU8{q5fTa^Fxapv>syuch7oGbt("
        "fzk)>JC9EHFAJ){0S4oJ=-K21pBnVR)9tn*m(JovL8^#ip(Yhe6|r8a7NlamELN&zsah}8ijpXnOQIyzgP0vIzr2<sI&y(Zj*1=V3@3bQNO|Zz5(mTCosB>q"
        "2Tph#;(R!I3laXH&kyB2-Xfg5=}3!a0z?uUC&Q`9M98-ZaGcXP77j}kn@=8NVjK&nM2KJy88*VA@VR9p+#AN7oT!G%^Q-;BmE`pSl#cC39NTLtwiAxN2f;GW"
        "zO%Q|1kadsP|s@r0R`Pj2m"
    ),
    # torch 2.13.0: save(nn.Linear(1, 1))
    "full.pt": (
        "c-o~^UvJw~6t|l;N!>rATf4Hgl)*MgVN2uuYcpuevMDb{tP2BOO+r_W<HS~6yT`s>wn>#hsBA+>e1kpl5s-M~Gk_3Jd)pHdf(Q5j+<Togw$rp?y^?d|dw#$3"
        "JNKS*u6LBgxFDp{!qAuz7KD~>S!+#|sM)=aRjbYk_v7QsF^xE`W@K$UyX!Q4OZT#tY3r&heH=_6tbPUJK8$4$Qz5Qu+NRxx#8Wgy-|?R6s=GSTT@S|hVIqT)"
        "bhWFSZG%9v=N$XQv^)vBdc!xZ=71wXY6OJnw&%F`L0*D%CWBJcsYj7&TZhSjBGoKMC7%Y15=cm-m>f)@1f8`#AEp(Nz|37mP((%i24;il%ri}MEKApj>DZoh"
        "$8GAa-n?yUM1t2=>o7;)Y#q)$HQ3Ai6IiIjc|^}xXqc)8i$=<z@fedvpeMuY2G_a3bq?Sn`&oL%*~<jpsKZL&>dhx`sSa=X{1kD+Z?)Kwy}b{Y(Gpv+9UJe_"
        "CDWr@Cw&0+bOKj2jM=FW)5ch$D-vA&0^T`*ck7Tr=eR#r>vUC@9<8fm!*Mzuta91+(3yxmu)WW1*U))pGd;`-C5nOTpP*T0Z8>g;nB~MZbaBXpyCyL(bI|r6"
        "$6+#B9)_t_SAFDRO{F<#LY@N)=xi7`*h7(<OK9atb40Stq3dXlK|P`p9XDxGdyY1^wSpF6)`8Rwj`$$h8Lh15(XbCWY%|E&5X|xVf?FK79b~)LS@6+5+~i$D"
        "6WP*L;=6RQs)%Tst~ov#EZ$N?zmeThQt8d_A3uCfOPW19BfEWGxD<4ImY&kCO7H_#N{(HtE)O?-Xvj?Br@vo(&5D^lqa_xF8$F3$BhplwZF`qiYpq&7R%P@k"
        "7g+$?UHD^+N{k&Fz^qUW0%$xUy2JXmR^56<-TtslLM)xdaIpFE0=v4B$Hp)v+#KAhYq?r=^K=3H`D5y5rvB}ns~vX9jGv%>E2J*hs@tdB{{0`s-?x~)a{Ie~"
        "Pu8FAXW+29PJ8|ZiK+kcy#3k9`Ck%By#nOh_jK2!75G?X7dbYYwW|F8gUOZ3vYgu}<qKuGQeMxM@|9vvuH;JcdLb`Y3MIK%EN&D^EK1^S6*4rA43AP|!5+pL"
        "?$Vi|$Rpq3I5pgT^AXx#3E{}5j(Z5V&tk;G-Em=5&&HjE>wh-l<k!BF!@i4i!__+#;eI|Lg!?5<43}M$_*;Z1$BE&JnT`<eC51?h#+l(PE=Bj*XC7T&J4!Nn"
        "tp{C6TtB3xWAi^^Fh5KMGv)Droyp)mxMe4j0VmDz0ro!&vT(B"
    ),
    # torch 2.13.0: the same, _use_new_zipfile_serialization=False
    "old.pt": (
        "c-oa%>vG%16_#Y#N#Qv6q|K%2mgxmlDDWanwpdH88%J$MiS5YF3}$Q>SON<H6$oIl3(2a6GwzQxPM)C;(0_e{yiZ@CGo9&=p0f)QfJkLh{vd%pXTNj%_Uta7"
        "t$b_5|NZ;kf5@NzasM6b*~;htx&+@7zGT|3E-fu(c`8#cjh$nbizrR_GAP*BKoUn%#>`=fAJK%bJhu%Pl&2YUMD!OX_@xP7HSNnVD8e+C{PO;aeF@&8MDi>9"
        "tM)2lq{$(FVSlwKz@}+mfuV8g7ct{Yo=kHuw35WqBf^TKgwfpiO#kp@`#z|5PtyFTE4-XaFYL19Saj9IZXAue*{KZEWW(zByCRZoJ)_<cJ!DgrB<YseU5#yJ"
        "r+meJ1krgh6@q9}=I2VOJv0b>@>Z*LJImsT2|^P>g8-C>o=;>>6A`5Om`cbMktvZOBT?d|<0v^KK9zJxh9C`x?kU+JPjCO}A^C`mT+2}455q_h?Gq72mO<VG"
        "8Rje)x(`_*(tIyYsoWUclEKEnNfU>TGnTX6>HK>M@mMZtl#qjaACHO8jw6qW4mk-~LJEOS1PIaJ0<W?H&}Gf!NfgJR#Y&TY6a;{tNRs8ui?IB+f~>!VhR4yM"
        "*V}ao1WQJc))Sihr4zUFL!onppD1wxMrDyRF(k+gk_LoPFVqeY0U^X}rk)n^B7G1om@tYcD1I6c!6YW!b@ym2nCo^_?qhn&avfNbN)khr5>+?fk7RVr)O>4("
        "hMzkuphYZ)0QE3007-}SAfy?q;#w!4qW`mUnrj{MN9VC*Pvu#ZOxiByJZDq!noGtE$N{!bNm7hQ;8hyb?E29dDhw$W$d|bAu~tb6+@gs;MX4D8_Dr82&oVY~"
        "t(t@PRKgZ|2)V3Wq>!8uWLD=($jX<Re-so^0n!g&m<vKhNpCF60x!|X%uRS{`l-1hWgdZTR%6Twiw;9@Te*Yvq9f#{8WqR}6qJmGH|0yCfYW#v8SX5~THCc?"
        "=`nIl;{um;-o%R%pbCwFi#`eRbUZci7=Jt(pM5zo*B=X>%d;aiP(HQYj!y6*=Z-KjK~BB1{^V?dOB44T!^ydP;OGU(_}&Dx-6q@d1FL69p%OzEQC$KZVak2I"
        "imJrSC1VckhbCu1ZvMagsHvYkRqa3whsF$QcXyYJVLt2~Wd|ShI%K2QZfI!Q?hw7tK;!lkvp=}mA%k;@W#8E$V^hs(O0yg`G*jzX*ssiXrJ%7N;OHZTz0rH3"
        "rLc==haJa*H7{u*h2wycN3B}NY;{Ph-Vs|*jJci)=8gHzIUSuYCcS-VlRgW;EEdvn%$cu(#X)Cr+Xk@C1s%E}(o7wtX$*lNe=3pQiFWQnL#qwqaiKQWChNNd"
        "U#n&iP&^2nI=I0c3V=OpX{gq)#Do+n92~&kNfl86o1@vbX0f&#!CJK#0l4<oRI3LJdiB?)qRus_+^0EoNeRXq^ww-(<4m5KW*w$eH{R}$wY6s0mEYA<6zFs}"
        "EGRcrXQ(?-x7##3XQ;wwu!$}J&)H!l0MyB5@GUe5OvS>T%P<&WvQiaLff)nmWH@6118}8GpAT@3Ak`!|dkAPmc-9J8lvmwJAHWI}!ePjDryOu=?XQmfA$h>0"
        "#66epV2d(0+c@!vMtE{_iX_5g9d^dqCP+nP4kw;OGOXd1Q_OWZd?H}8#0v)77TJT-l+WP&7DI6aV>P%?%1jKq-9xZaj4U`&;_+6UW2e875YVN&n>YHsZKJ+<"
        "S?9uV%o<-i5Ha>#s|>qAv5HU-IUb;zwb3gyf!ub8qt*}@bD-;cMNB1gw9J9tsvd!Sb<6Dr&L}P52(d%@q)RG)G(sDF(T`-8^b|QsZ*G&en(?9E9kQ-~I~u>n"
        "KTyO&t5WUg-C)`#6$|y_1w1SgO@tBz7%9YJV&x2~n~=To`l7dx4rvr%=55VA*zt1e<Sfgpg(2ic{%9lUk(x(v9;}r_>UGdKCw#A;L4Et#IXmAcVF#~wkW!&O"
        "1R5AgDLGG_Nz34uBwzia{a1c@!mpV2i+F3y;l>i-Rq(le72a!IfxkH6Khiftoh@#ZH$$h8uuKd{(Wr=GznWw4s~4z9RZ{18VDOhr(|!T(rl1K|LVit8G1LX?"
        "fgUvY%l6Blvwi)>=GJ!a#-Kmgy58fjsB5g375vrx<-3x<_Qn3v{__6v-}vkL=Z$YXxG~4f!`utwUhcy|$G;PK(%^5l5BOV>zkR@e{5-^$pM1^VIpFWA>o8`E"
        "zZYH&!MpHUc+UD@W4m{qzaMI=KUG%0;veAG&%RMuMDm{>@RkPt@N52y1OCfGW!M=Nc$X9WR}=ng`#l_iyM>eCr5@UOBBu%tG+1tWj)NJ4e&{#`j2OKAgs*+Y"
        "KRVzY`wfLx-uWEhnG>ezk>KmftYyE_kZW02$$IwND2s#>6mi_t;r+WRT&G-8<-~!SxM9CLCvvdgmirdJuGBW|_vh7Ud_qqJHl>*Pd`l_buwSn$Rx#XE;%)nb"
        "h2n<Ep;G;g{Tiym0S?-o4<#;vZYk-G{nj~YWolPx{8mQ>tn(ME{Z6Uf)-{_`OU2aS@0H%iy4vO68vM?Lf1*}YZ3*+e{bl<l7^|;Z{)hc#*j1jbJi$MH7La~<"
        "5f@jOwY;Q1H#Z00O`pj>|NY(n002s}cm"
    ),
    # torch 2.13.0: jit.save(jit.script(nn.Linear(1, 1)))
    "script.pt": (
        "c-jl_W@cev;NW1u0K5#M48_SsnFS^KDTyVC`UY-Jf(%jUz(wi*z5s7_4#tOU8-WHffN%gFGaXUPG<0*a#Wa%?Fp1N7Kgj;{`mmjZ?dNB(N48(DAUns+$(j-u"
        "G%zK{$Cu<6C1=FP>w#&#yga?!{FKt1)MCAy%)HdZA}${YRmh;(SgR4i26RYyYG!&yNg-o0L`!^WNoGzlSA0=wQfX#RN_<IbUU7a=e3=nfA(Mti1UpbiF;Hb<"
        "dTJpvL<^T&PJUuZFhr26kR^f<sK%g>HG&yPCl{0!vUxL>1QxP;GiZ1-0+|r9BRM%gCnq(zBr`v+n9IK?CABCu#U(SjgsYH4GpHn}kTU`lfJvE&#f4lMK&vyD"
        "GayDA7IJ4mjN}0u2{N#xBLkv~Hv$yaB}Ivud6{|Xg?t?mVnBX;W^sI4X--ajQetv;d16sYd`5nLb|JrCX;Ptp9w^exH~)EK2{avqL6If`j5N$xGhon!MOt!x"
        "N~%6Qy!FAfeqNqFG`#g8;jLFt>E@(LT&&gx?9MxEz;oxbXp6dZ0c(lrguc1A{BAZmOvu#|TNKbH$MNg?(v0mdrgT2J`|-z&J)WF)G7CH3rqAd;o@c?3v3FL+"
        "yBUURYaenvf7bYJ*OO)KX(eifdph!TuKnxO+VV1?K{$wO;>1<|<DX~9Sne`1YkRP|*ZY>(`>z?xZXZ4psjqlv#(%Ds<?lr!g}ttc`RWO-zP(%d@%g?_t?c`a"
        "-oMbaUCb(-WSTErW&Pou<&n&bQJx_#uk_?SPMvnX@@@LO-K+mbeR?k_yJyeamkMv{z6h?`dP__3$v4?`I~xQmeVcOMn5`E5UuXVm>3Zuw44^PSSoFo`EihE)"
        ";|+5w25pkVTrUNfdeh^<c}ktwJmu?q+V7Bq$lOmK0{=3U`$bG;StcZ|rsHEEsH&WmCA{0vH<R7U$j`dpDI%k1_P^HquS6OPiu2z+o>P3jT-Sn`foJ}nj|ceU"
        "-T&48cvQXk`0fkxcWmx(Jz!yDJH(~u)2t?B)Oy)RPkE+A*M>~?pn2lE_-hY^s@>jDy;t)0wiT?)r6WbxhMgAs`k?0h6VVvQxs%>{&v5rrj5cXnZ97e6*8~|p"
        "!Nqf2E=5|GC8YLGYdLr6t<l1XS+^HS+DLERedfuX(2YGMb9S}pPg!l8>E@=Mx9?KsG5x^x&$U*0n)g4dG*OP`dj8IRn#dWMf3|`9gxI5Gk_6UEzL=XO^2}tO"
        "agsmRsYw%x&aSw$&7$a@%pzMJ1C65}cg>WkkIHOK;J#jPH-x#l>*^8vr5ipn)la>lb$ox=uE|p#Epe#_m%6)lud)J0<YGpArJe||RD?%nUU5lcUP&>e=wo1L"
        "VA2F<#aw;PaKhy$AA<wTq_WhaVqhua=43-r0dC9%vi;(`^iU?C`Am3i7eLsaR9TXm4=TPWwLd4bq$DR5<c3z;$C99;nGLTSWEu2fZqNf)Va2IMnTa`>Rf(W7"
        "H9j-N%}JXS2N@a}n;RIInHXCdnj0G$n_HL}m;xyS3o}DQ6LV7oOCylDfhEX=8Ojw38bCK_fL+K43M{xAk?UVx3|FJn<LFwEt4>s{A!u3+(X}EM;QT0Bub^rL"
        "B{zs>M0tZ;5*eUq?qp&hx%5Fd9XV@Qp_u-cnSp|`4Lt~uGmZ#~J*QY1ux2}S6Oa=>A8N*BV?fJp=z5V8tpJMNNeI30%z~~PIYG&y=oVvVz@N+myxG`vpo-;~"
        "b>SL0(dY&y2)%<HLId@ISr%N-bPE<^WrOJ91gnRr1pu+{`|S"
    ),
    # torch 2.13.0: export.save of a module Net that adds 1
    "exp.pt2": (
        "c-qxi&2Jk;6d%WFK3tk6DW$YRtudFhP1oyhyDhW?WK;!}G%cuV9gQ}-V|$bJu6K8wCXFH?p@QJdxs^EZFYqUDLZ}tuK#@4WrKfTL1P26fX4dxZ#&(*d9N5TN"
        "@63C@_j{i^^1^&{7@@H-wCy^BiioT?lbS-6<Q<~d>eNj(ER7i0d%~(^R`r^+;#y{TE{ksM;o3|Hki_};=GNB2{OFkZ>t|n0fPMB^=*vz*FLl`ggi95(!>{uk"
        "WH^nUpZ%jK$?bE4o?Xw(S+pzvYmU;aV*qFwgs~6{{F`nzThxWGw>J}tizzW(%i%kw(qO`g^~BcJ(ri3owdhWwil%wOCXn?+sp8ZKW!uzp)VgFfT}c6D38bYP"
        "0t7VtMA~>RF{*425V)QG1VLz3H#K-n!T0W-MeD=~LFgv+<hnY$cCbOH!U}_LLnWxIm^zBerOLWN;*~^_HkwH_m29kHx1ksY7XCLkDnQ84O%l(~#&t7ZwVXSO"
        "qgBi}TpFpi7iO6Iv+JkN#~ngjju~G+n_{k*rk6_0?J|q+V$6gwo}I<Gq39;Y(p3ohtQT}#H9h(`bpfc?Ee%70R7Y>ZzQo;PIdE~^YGPM6Yk)5N$HF+Mn=Qj&"
        "=KZl?q44C^6r;s+z6lv&|24YNWReAtarL{T8`*XSn6^XgmhKQ2Lrt<=R29P|u&$9cT@}^p;Uv^%OH_(R);&IqwM!jc>x1rsdrFO9t6Ft=5&9%#rfeu1kaxzC"
        "Ju#pDkJLHVMuYA8^3Yygwk#vG44Lke<+c-Q3kWo@wY<^;v1(XKz!KlkYo-Dyq&rx!+a#*zUdts8=BvV&9edh8cD4bD<!3+=EelwTqSrSn>&EsB1jMS%+auB2"
        "32rttAeMMCIV+}lI|W0h!n0k0=SpI^r5jW?U5U1u24M|fVQ&FS)~OI+72qw`bwhKA0IP69{{@oh-hggrX`9{>4_9v<ny%6wG;S~TBf-Fy5+Z*6BDPz049**q"
        "81j!<ws~Tpa+bDFXqJ2G5W*n1tj42>t2!~XZUw`ui9lHs$JH%U)D%<{>qy>kj$%ST@;AQ&GnRH+LamdA5>RX?E4&bkjEQdY?`e(#Qaadm1l=2pZ(g~2<?1_$"
        "rOvGG!X(mCDkI5fz3EYFfxGO$p%D=Vc9!@f`sKkNMiFA4{%46(=y>-m<0=j2yeMw(T+yWExud;L75z~s(KJ$kvc5(*veaBP%5xJTm=A|k@#e!VsvB+$W(_MQ"
        "tv!0y(lHy&%-jSAkT>+~h){`@*`T>D7Gw6%%?QZIcJyWx?hqAwcs@ey1J~x!eB_=z!v2kZs;ZV@5S2m<-Pn7MMjWEO4MiKX$4)QW<J68V+6V91FKpR|KDH+$"
        "7Q`<eKYHx}Kt33FAUlR$>9{LF^)-}Ev6Sat?t3IlF$-Tk{qZA4J~Gh42~_A>Xukjy17=c#n2@2&UJk(dEF*B~j{Rf^ObiVqFoiC42rO?<VzKa*=PvB&;O$+8"
        "PN_i{hkLL8e0&6~j11&3f!+vIRZ=d`o!<w6%YXlJky-!dTxuFjqTzwo5Bnm}N$$S<&%~JZhxcpm?;QV=DBUdp(X22opaSkHte&y1mFJ{gl1b$X>0+u>%B51p"
        "TsEK0$mzVC$>s8Ls#uV-rA#58ky9mJroSH_eK-R=W;n|TBirHWZ<5Jv%)@gatnF`rV*$;lKJ8Fjg+cs9d?EmHErJGgP8i2uh*JTaM?RcR1BBK6l{67h|6mA("
        "YB#LwuY<z@-S2$5ef;;Q=VU;6F^YC5oQ3(3k=b^cMbC9KM??2-BjWyNRNO(2Z+(40Jc|i-U_|JQa(N-k3aD-jFQ0}z_UT{d(@+BJb>uO|BJ1V3BfUzyNz)8j"
        "u4HGJndra<I)W|+kUK40+;a=d%=)W8J^pRy`8|a$bL%1l9orZ8Gd^zR`TY2NWpZZc`Edxn#R>Rk_oaOq-^2Vq0W+){gy%57GKFj&W|y4Fr%G}uUCfnaxmYTt"
        "^RST4mU4xXoX!<;j3Ih*<5s`<<^R>?%r@4~{yWqlTq%Hg-;euDzaWLN{inO5!8b(&_5O7z4B_v{QvryTakSH+Fbw8z!s!6mUx!hTmJaLt+vrF@|N12A)wp2*"
        "e;WiR_d^dL(0hXh|DoUjokGFR39I@`EBNmDehLjJ_<nPDJaqqLNZi+_gLC(v7q`#dark5MLiS((ag<a"
    ),
    # skops 0.16.0: dump(make_pipeline(StandardScaler(), LogisticRegression()) fitted, compression=8)
    "pipe.skops": (
        "c-pO&c{o)2AIHZw$s`&y!ehBKOfiOG7L1~s5y@Ox5*quKb=*kV%9dS*xMu8IE}7d(2$v8pLus)Nsq9PKOCkN{-uv|Pbeit{qkGPCp6~gb^E|Kj`+UFO^L*YU"
        "V;){n5D3H%nmHL_S1VHa6OmnAVP7KbOHBiX!eKSl)im)K6b^;-@e8KS!Db|dJ06kRNH=oRPSb6ReM<6usICQ7Mfthc$mVA0S+G2EdYS+<$oMzJ3BGuko5J2="
        "?)MVeS^{?kM7fY))KUNlMEXn@oJo1?%C7Q1(?zS{u~-}mt^Q5AaIL?UK~)!`CwC6Qh2~o8Gfiw877Ie1vy)>U4#uuB5{@i}jNSJY0@&Jnt2OH@wlM75|HxJa"
        "bN8WP*3FTIx$!ppwj|m-WG(BuO3;88qX*;tRI$}$6<~|dJCOV}TblU)YPQ<qC}dbE`5p_YtVtbjI=Yc;O%5Z>*10dXD12wp<liR^uodRH(Q%AjrG9A(uYvt1"
        "TOR*v%ixnOBv{El>M=k$lo;%3$gZL|Y#+4xKdqBT;lC-z{9ic`3<d-DZB*bLcg`z;Rm0%EX(eK`1mJ&3JM&ci*4oq8bpR)o?N;sL{wlAUv8+>sv3T1YmVn*5"
        "WEF*-+W|1vr+qKP<clBq@3lZ<G2dwH(-yf6X9f~93AHi+^`7iTrWhXxw0sf-g0P<kIJvucJ0Lv+e0}C^?5IO<(NHGiMPERBWJ5{)x$LqN@Oh2USyypohgiFP"
        "8WBNt)Q)h~v<GLb^<{9YfnpPiHnmOoc36$y_)r~9az}IJVg18X^^N{p3j2}#tv#xBR+86zA@vs(7a)l^yL1)W<pQadoNk#eZF+~PGOMv$JR{5Kj~UwffRBpe"
        "PnGjp-YV6_sZsHn)!ml5sRokSmi_W_{s;-7K@-^bI#|MJJ-C@@(ZE%}H<8!ULIYn$3fxyoa20!!?>@F^XVKq`jwny4NH8%R{n<-POR$;6S0oXklG<~_6V@m7"
        "*4FuY)8?~2F<I`>@^y2rj_OlGn2y=N5m1D}Y7zg#GwBK{U5oRDPK6<(ksG#=lFui5-Ec^J*Du0RRWKA0nq>TJ=J<ocb9zEQ-qEY!37<TrsG(oBOFC{-04v^i"
        "hU&4~qvuGAOA}r@gx>jjU9jDDrFZLUq`^(enq#l{PH!aB77mtcimF#bbCn(1Iu#GHI+lN^X*Tr1?@cA)wB;gKDyH~6puA0_qn9wA+%S^8m+XYmp3FW_oD*U?"
        "u!tU7n4Gsv#uH6j%sR`Urq_dy#t(Xx{V;XkLE;jx@)U|L?;=!^n0^DEHGRSIWZg?0G$9n5G{O5W_iApenZX5J*)TDR!A!+{x&=ZWKP$eb#VhzkWb^g`7X_u^"
        "9m7jp0eUYsFL&9r+Z98s>gEP)@-XOVX~PiJsoBNsveQX97dLqiVuc?(-i^Ft69cYIR&7eD+<-MO^K{!${(=FMQ^=8wtjL9eq^J6fb>c;%-+$k2JYaS&UB%_E"
        ";iFLJ;3WCNL{8vgdd$_ZUrU9a4vL+Zz4AeJ!7?9FwNvJZ@TH#hH(6#0@iF>^;!!5NMDHQnIP0on`?F$TYT|?@g91s+MUbH&R*=(T?8<(bHPA;b5Iq-NPD#9C"
        "#qhfs!8B*+c$+!K3*Z}7W^EMP_qXp$!!<s7iTT5Eq}MWZ9RmrY<-{*=(`~d^DG@MY%tk~s1fLeweL~L<!ACto30|8%iDDHx2F~0d$ssd>1?1&FDA4jkI^To*"
        "R42j<d`nsJhK8c*x#PFO8-gp08gh0`=^Z)c{YIoVH|LsL&?7r&ztAr9+q>#1S(S}FOquC>O31Mkxh0VnTXmv_o1{{4{GG}~#V(~&ZzJB%@tPYqzxGt=k#X1v"
        "%Lol}x_!(wax41#9ug5oCmc5~a^xTG)jVF~)ZpwGMtBchwxGrrgrr<~?j)DTN?(p~^cGlraqH0dhNW1D_U$+VJSf?Ta#!7`xnsTiUHx&1hl=#fV<y#2?gRok"
        "x-f1r$FI2JfXkcWU5qMy=8Gg~0HMN6v5LXa>+eq~5~+RQE1o&zL=hBT&7u?FZU~#sYqv_gI1eBD)9*3`7hK+zv+xJWR+S@?{T5>-*#hw4uIsDeA8=eb)OBKG"
        "*>KlVTE2CMF<(-1?PVWvY2=SmAni2y1D1)tvIVbKaT~g?kP{1P4c<DbJPRXY(p@VJsG%{z3DZM+<VN;TpF8*KPTA{EPoY{MCBJUAouxc^jexJ5o%}A)j>0sf"
        "Ify?(B&tbvNxGx?x)BcNp;_v4ru(MaV^`bqJ;triGa$Yn=Z%Z3&Z+vBBKebRDQktUQo&(4N(>VXutR0(XnvSA1#WFgj$I0T_A)o4P;C`&KW+dStKZm?AsKUV"
        "i}HLuhJ89BxImmk84v)>Q`>;^oYNH$08BpH03j}pIS2><W|VC}DHq4Y0t5il#5RDy%`sa50l-kO4XEbk7!kghL_l-j2B3I2wt64{*o3zM9XuRcG7tdlquT%?"
        "?`K_=WXuQt^Tkf~smK1h=$(I7{{xy3gWm"
    ),
}

NAMES = tuple(_FILES)


def sample(name: str) -> bytes:
    """The file of this name."""
    return zlib.decompress(base64.b85decode(_FILES[name]))
